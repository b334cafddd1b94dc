//! A stranger's own ends of both roads, spoken by hand: libp2p's connections below any protocol of ours, and the uplink
//! by quinn with a key that nobody knows.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, noise, quic, tcp, yamux};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use stallmesh_protocol::sign::DeviceKey;
use tokio::sync::{mpsc, oneshot};

/// Nothing here takes so long; what does will never come.
const PATIENCE: Duration = Duration::from_secs(30);

/// One libp2p connection.
pub(crate) struct Road {
    open: mpsc::UnboundedSender<oneshot::Sender<SubstreamBox>>,
    /// Streams that the other side opened.
    pub(crate) inbound: mpsc::UnboundedReceiver<SubstreamBox>,
    /// Ends when the connection does.
    pub(crate) ended: tokio::task::JoinHandle<()>,
}

/// An address without the key that is expected there.
fn place(address: &str) -> Multiaddr {
    address.split("/p2p/").next().unwrap().parse().unwrap()
}

fn transport(key: &Keypair, address: &Multiaddr) -> Boxed<(PeerId, StreamMuxerBox)> {
    if address.to_string().contains("/quic-v1") {
        let transport = quic::tokio::Transport::new(quic::Config::new(key));
        return transport.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection))).boxed();
    }
    tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(key).unwrap())
        .multiplex(yamux::Config::default())
        .boxed()
}

impl Road {
    /// Connects; whoever answers, answers.
    pub(crate) async fn dial(address: &str, key: &Keypair) -> io::Result<Self> {
        let address = place(address);
        Self::over(transport(key, &address), address, PortUse::New).await
    }

    /// Connects over QUIC from another of this machine's addresses.
    pub(crate) async fn dial_from(source: Ipv4Addr, address: &str, key: &Keypair) -> io::Result<Self> {
        let address = place(address);
        let mut transport = transport(key, &address);
        let here = format!("/ip4/{source}/udp/0/quic-v1").parse().unwrap();
        transport.listen_on(ListenerId::next(), here).map_err(|error| io::Error::other(error.to_string()))?;
        // Which addresses it listens on is known once it says so: then it dials from there.
        let said = poll_fn(|context| Pin::new(&mut transport).poll(context)).await;
        assert!(matches!(said, TransportEvent::NewAddress { .. }), "{said:?}");
        Self::over(transport, address, PortUse::Reuse).await
    }

    async fn over(
        mut transport: Boxed<(PeerId, StreamMuxerBox)>,
        address: Multiaddr,
        port_use: PortUse,
    ) -> io::Result<Self> {
        let options = DialOpts { role: Endpoint::Dialer, port_use };
        let dialling = transport.dial(address, options).map_err(|error| io::Error::other(error.to_string()))?;
        let connected = tokio::time::timeout(PATIENCE, dialling).await.map_err(io::Error::other)?;
        let (_, mut muxer) = connected.map_err(|error| io::Error::other(error.to_string()))?;
        let (open, mut opening) = mpsc::unbounded_channel::<oneshot::Sender<SubstreamBox>>();
        let (arrived, inbound) = mpsc::unbounded_channel();
        let ended = tokio::spawn(async move {
            // The connection lives no longer than what made it.
            let _transport = transport;
            let mut wanted: Option<oneshot::Sender<SubstreamBox>> = None;
            poll_fn(|context| {
                // A new stream is one that the muxer must look after, too: round again until nothing moves.
                loop {
                    match muxer.poll_unpin(context) {
                        Poll::Ready(Ok(_)) => continue,
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => {}
                    }
                    match muxer.poll_inbound_unpin(context) {
                        Poll::Ready(Ok(stream)) => {
                            let _ = arrived.send(stream);
                            continue;
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => {}
                    }
                    if wanted.is_none() {
                        match opening.poll_recv(context) {
                            Poll::Ready(Some(next)) => wanted = Some(next),
                            // Dropped by the test: the connection goes with it.
                            Poll::Ready(None) => return Poll::Ready(()),
                            Poll::Pending => return Poll::Pending,
                        }
                    }
                    match muxer.poll_outbound_unpin(context) {
                        Poll::Ready(Ok(stream)) => {
                            if let Some(sender) = wanted.take() {
                                let _ = sender.send(stream);
                            }
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            })
            .await;
        });
        Ok(Road { open, inbound, ended })
    }

    /// A stream of our own, below any protocol.
    pub(crate) async fn stream(&self) -> io::Result<SubstreamBox> {
        let (sender, receiver) = oneshot::channel();
        self.open.send(sender).map_err(io::Error::other)?;
        tokio::time::timeout(PATIENCE, receiver).await.map_err(io::Error::other)?.map_err(io::Error::other)
    }

    /// Asks for a protocol on a new stream; the stream where it was granted, or what was said instead.
    pub(crate) async fn ask_for(&self, protocol: &str) -> io::Result<Result<SubstreamBox, String>> {
        let mut stream = self.stream().await?;
        say(&mut stream, "/multistream/1.0.0").await?;
        say(&mut stream, protocol).await?;
        let header = hear(&mut stream).await?;
        assert_eq!(header, "/multistream/1.0.0\n");
        let answer = hear(&mut stream).await?;
        Ok(if answer == format!("{protocol}\n") { Ok(stream) } else { Err(answer) })
    }
}

/// One message of multistream-select.
pub(crate) async fn say(stream: &mut SubstreamBox, text: &str) -> io::Result<()> {
    let mut message = vec![u8::try_from(text.len() + 1).unwrap()];
    message.extend_from_slice(text.as_bytes());
    message.push(b'\n');
    stream.write_all(&message).await?;
    stream.flush().await
}

pub(crate) async fn hear(stream: &mut SubstreamBox) -> io::Result<String> {
    let heard = async {
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut message = vec![0; length.min(64 * 1024)];
        stream.read_exact(&mut message).await?;
        Ok(String::from_utf8_lossy(&message).into_owned())
    };
    tokio::time::timeout(PATIENCE, heard).await.map_err(io::Error::other)?
}

/// A frame as all channels carry it.
pub(crate) async fn send_frame(stream: &mut SubstreamBox, frame: &[u8]) -> io::Result<()> {
    stream.write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes()).await?;
    stream.write_all(frame).await?;
    stream.flush().await
}

/// All frames until the stream ends.
pub(crate) async fn frames(stream: &mut SubstreamBox) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut prefix = [0; 4];
    while stream.read_exact(&mut prefix).await.is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
        if stream.read_exact(&mut frame).await.is_err() {
            break;
        }
        frames.push(frame);
    }
    frames
}

/// A quinn connection to a hub's uplink port, with a key of its own.
pub(crate) async fn uplink(address: SocketAddr, seed: &[u8; 32], alpn: &[u8]) -> Result<quinn::Connection, String> {
    uplink_from(Ipv4Addr::LOCALHOST, address, seed, alpn).await
}

/// The same from another of this machine's addresses.
pub(crate) async fn uplink_from(
    source: Ipv4Addr,
    address: SocketAddr,
    seed: &[u8; 32],
    alpn: &[u8],
) -> Result<quinn::Connection, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    // RFC 8410: what comes before a seed and before a public key.
    let pkcs8 = [&hex::decode("302e020100300506032b657004220420").unwrap()[..], seed].concat();
    let spki =
        [&hex::decode("302a300506032b6570032100").unwrap()[..], DeviceKey::from_seed(seed).id().as_bytes()].concat();
    let key = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8))).unwrap();
    let key = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key));
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_client_cert_resolver(Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(key)));
    config.alpn_protocols = vec![alpn.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let mut endpoint = quinn::Endpoint::client(SocketAddr::from((source, 0))).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let connecting = endpoint.connect(address, "stallmesh").map_err(|error| error.to_string())?;
    tokio::time::timeout(PATIENCE, connecting)
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
