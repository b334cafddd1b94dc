//! The end of a process, as its peers see it over real QUIC.

use std::time::Duration;

use stallmesh_node::link::{LinkCommand, LinkEvent, LinkNumbers, Road};
use stallmesh_node::mesh::{self, MeshConfig};
use tokio::sync::mpsc;

/// Waits for an event; a machine under load is no failure.
async fn next(events: &mut mpsc::Receiver<LinkEvent>, wanted: impl Fn(&LinkEvent) -> bool) -> LinkEvent {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(60), events.recv()).await.unwrap().unwrap();
        if wanted(&event) {
            return event;
        }
    }
}

fn shell(seed: u8) -> (tokio::task::JoinHandle<()>, mpsc::UnboundedSender<LinkCommand>, mpsc::Receiver<LinkEvent>) {
    let (events, received) = mpsc::channel(64);
    let (commands, receiver) = mpsc::unbounded_channel();
    let config = MeshConfig {
        listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".into()],
        mdns: false,
        mdns_silence_max: Duration::MAX,
        connections_max: 16,
    };
    let task = mesh::start(&[seed; 32], &config, LinkNumbers::default(), events, receiver).unwrap();
    (task, commands, received)
}

#[test]
fn a_node_that_stops_tells_its_peers_and_is_not_missed_by_silence() {
    let staying = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_task, _commands, mut events) = staying.block_on(async { shell(1) });
    let listening = staying.block_on(next(&mut events, |event| matches!(event, LinkEvent::Listening { .. })));
    let LinkEvent::Listening { address, .. } = listening else { panic!() };

    // A runtime of its own: when it is gone, nothing of that node runs any more, as after its process.
    let ending = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (task, commands, mut others) = ending.block_on(async { shell(2) });
    commands.send(LinkCommand::Dial { road: Road::Mesh, address, peer: None, submit: Vec::new() }).unwrap();
    ending.block_on(next(&mut others, |event| matches!(event, LinkEvent::Up { .. })));
    staying.block_on(next(&mut events, |event| matches!(event, LinkEvent::Up { .. })));
    drop(commands);
    drop(others);
    ending.block_on(task).unwrap();
    ending.shutdown_background();

    let down = staying.block_on(next(&mut events, |event| matches!(event, LinkEvent::Down { .. })));
    let LinkEvent::Down { reason, .. } = down else { panic!() };
    assert!(reason.contains("closed by peer"), "{reason}");
}
