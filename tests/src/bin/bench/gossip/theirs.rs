//! rust-libp2p's gossipsub, as quick as it can be set: nothing signed, nothing checked, nothing kept on a disk.

use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder};
use libp2p_gossipsub::{
    Behaviour, ConfigBuilder, Event, IdentTopic, Message, MessageAuthenticity, MessageId, ValidationMode,
};
use tokio::sync::mpsc;

use super::{Arrival, MESSAGE, Pass, Work, drive};
use crate::nodes::free_port;

const WITHIN: Duration = Duration::from_secs(120);
/// Bytes of a message that say which one it is.
const NUMBER: usize = 8;
const DEGREE: usize = 6;

/// One pass between swarms of its own.
pub(super) async fn pass(work: Work) -> Pass {
    let addresses: Vec<Multiaddr> = (0..work.nodes)
        .map(|_| format!("/ip4/127.0.0.1/udp/{}/quic-v1", free_port()).parse().expect("an address"))
        .collect();
    let (sender, mut arrivals) = mpsc::unbounded_channel();
    let (meshed, mut ready) = mpsc::unbounded_channel();
    let mut orders = Vec::new();
    for number in 0..work.nodes {
        let mut swarm = swarm();
        swarm.listen_on(addresses[number].clone()).expect("a free port");
        let neighbours = work.neighbours(number);
        for other in neighbours.iter().filter(|other| **other < number) {
            swarm.dial(addresses[*other].clone()).expect("a dial");
        }
        let (order, messages) = mpsc::unbounded_channel();
        tokio::spawn(node(number, neighbours.len(), swarm, messages, sender.clone(), meshed.clone()));
        orders.push(order);
    }
    for _ in 0..work.nodes {
        tokio::time::timeout(WITHIN, ready.recv()).await.expect("meshes form").expect("nodes live");
    }
    let hand_in = |message: usize| {
        let _ = orders[work.publisher(message)].send(message);
    };
    drive(work, hand_in, &mut arrivals).await
}

fn topic() -> IdentTopic {
    IdentTopic::new("bench")
}

/// QUIC with the library's own settings, and a mesh of six.
fn swarm() -> Swarm<Behaviour> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::None)
        .message_id_fn(|message: &Message| MessageId::new(&message.data[..NUMBER.min(message.data.len())]))
        .flood_publish(false)
        .mesh_n(DEGREE)
        .mesh_n_low(DEGREE - 1)
        .mesh_n_high(2 * DEGREE)
        .heartbeat_initial_delay(Duration::from_millis(500))
        .build()
        .expect("a configuration");
    let mut behaviour = Behaviour::new(MessageAuthenticity::Anonymous, config).expect("a behaviour");
    behaviour.subscribe(&topic()).expect("a subscription");
    SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_quic()
        .with_behaviour(|_| behaviour)
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

/// One node: it publishes what it is told to, and tells of what comes; once of its mesh.
async fn node(
    number: usize,
    neighbours: usize,
    mut swarm: Swarm<Behaviour>,
    mut messages: mpsc::UnboundedReceiver<usize>,
    arrivals: mpsc::UnboundedSender<Arrival>,
    meshed: mpsc::UnboundedSender<()>,
) {
    let topic = topic();
    let mut looking = tokio::time::interval(Duration::from_millis(20));
    let mut told = false;
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Some(message) = message else { return };
                let mut data = noise();
                data[..NUMBER].copy_from_slice(&(message as u64).to_be_bytes());
                if let Err(error) = swarm.behaviour_mut().publish(topic.clone(), data) {
                    eprintln!("gossipsub did not publish a message: {error}");
                }
            }
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(Event::Message { message, .. }) = event {
                    let number_of = message.data.first_chunk::<NUMBER>().map(|bytes| u64::from_be_bytes(*bytes));
                    let message = number_of.and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX);
                    let _ = arrivals.send(Arrival { message, node: number, at: Instant::now() });
                }
            }
            _ = looking.tick(), if !told => {
                // A mesh below its lower bound is filled at the next heartbeat; above it is as good as it gets.
                told = swarm.behaviour().mesh_peers(&topic.hash()).count() >= neighbours.min(DEGREE - 1);
                if told {
                    let _ = meshed.send(());
                }
            }
        }
    }
}

/// Bytes of which none is like another.
fn noise() -> Vec<u8> {
    (0..MESSAGE).map(|place| (place * 7 % 251) as u8).collect()
}
