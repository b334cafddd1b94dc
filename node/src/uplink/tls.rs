//! Device keys as TLS identities: raw public keys (RFC 7250), Ed25519 only, TLS 1.3.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use stallmesh_protocol::DeviceId;
use stallmesh_protocol::sign::DeviceKey;

use super::tickets::{Counter, PER_HANDSHAKE};

/// The application protocol of both sides.
const ALPN: &[u8] = b"stallmesh/1";
/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Length of a connection's name: long enough that none is met twice.
const CONNECTION_ID_BYTES: usize = 8;
/// PKCS #8 of an Ed25519 seed up to the seed itself (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Draws the first random bytes of the process, on a thread of its own: the library gathers entropy for some forty
/// milliseconds before it gives them, which the first handshake would otherwise wait for.
pub(super) fn warm_up() {
    // Without the thread the handshake draws them.
    let _ = std::thread::Builder::new().name("entropy".into()).spawn(|| {
        let mut bytes = [0; 32];
        let _ = aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
    });
}

/// This device, as TLS shows it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
}

impl Identity {
    pub(super) fn new(seed: &[u8; 32]) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pkcs8 = [PKCS8_PREFIX.as_slice(), seed].concat();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let key = provider.key_provider.load_private_key(private)?;
        let spki = [SPKI_PREFIX.as_slice(), DeviceKey::from_seed(seed).id().as_bytes()].concat();
        let key = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key));
        Ok(Identity { provider, key })
    }

    /// Connects to `expected`, or to whoever answers and proves its key.
    pub(super) fn client(
        &self,
        expected: Option<DeviceId>,
        transport: Arc<quinn::TransportConfig>,
    ) -> Result<Client, Error> {
        let resolver = Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(self.key.clone()));
        let verifier = Arc::new(Verifier { provider: self.provider.clone(), expected });
        let mut tls = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(resolver);
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.enable_early_data = true;
        Ok(Client { tls, transport, tokens: Arc::new(quinn::TokenMemoryCache::default()) })
    }

    /// Takes connections of every device that proves its key; the gate decides what it may do.
    pub(super) fn server(&self, transport: Arc<quinn::TransportConfig>) -> Result<Server, Error> {
        let resolver = Arc::new(rustls::server::AlwaysResolvesServerRawPublicKeys::new(self.key.clone()));
        let verifier = Arc::new(Verifier { provider: self.provider.clone(), expected: None });
        let mut tls = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        tls.alpn_protocols = vec![ALPN.to_vec()];
        // Each connection gets its own below; without one nothing is resumed.
        tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        tls.send_tls13_tickets = PER_HANDSHAKE;
        // QUIC bounds it by its windows; any other number is an error there (RFC 9001, 4.6.1).
        tls.max_early_data_size = u32::MAX;
        let crypto = QuicServerConfig::try_from(tls.clone()).map_err(|error| Error::General(error.to_string()))?;
        let mut quic = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        quic.transport_config(transport).migration(true);
        Ok(Server { tls, quic })
    }
}

/// How this device connects.
#[derive(Clone)]
pub(super) struct Client {
    /// One for the life of the process: a ticket is good only beside the verifier and the key with which it came.
    tls: rustls::ClientConfig,
    transport: Arc<quinn::TransportConfig>,
    /// Addresses that proved themselves needn't do so again.
    tokens: Arc<quinn::TokenMemoryCache>,
}

impl Client {
    /// For one connection, with what it may resume from.
    pub(super) fn config(&self, tickets: Arc<dyn ClientSessionStore>) -> Result<quinn::ClientConfig, Error> {
        self.with(Resumption::store(tickets))
    }

    /// For one connection that resumes nothing, and leaves nothing to be resumed.
    pub(super) fn config_without_tickets(&self) -> Result<quinn::ClientConfig, Error> {
        self.with(Resumption::disabled())
    }

    fn with(&self, resumption: Resumption) -> Result<quinn::ClientConfig, Error> {
        let mut tls = self.tls.clone();
        tls.resumption = resumption;
        let crypto = QuicClientConfig::try_from(tls).map_err(|error| Error::General(error.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.transport.clone()).token_store(self.tokens.clone());
        Ok(config)
    }
}

/// How this device is connected to.
#[derive(Clone)]
pub(super) struct Server {
    tls: rustls::ServerConfig,
    pub(super) quic: quinn::ServerConfig,
}

impl Server {
    /// For one connection, with the tickets that it uses and is given.
    pub(super) fn config(&self, counter: Arc<Counter>) -> Result<quinn::ServerConfig, Error> {
        let mut tls = self.tls.clone();
        tls.session_storage = counter;
        let crypto = QuicServerConfig::try_from(tls).map_err(|error| Error::General(error.to_string()))?;
        let mut quic = self.quic.clone();
        quic.crypto = Arc::new(crypto);
        Ok(quic)
    }
}

/// A reset key that stays the same lets nodes notice a restarted hub at once, instead of after the idle time.
pub(super) fn endpoint_config(key: &[u8; 64]) -> quinn::EndpointConfig {
    let reset = rustls_hmac(key);
    let mut config = quinn::EndpointConfig::new(reset);
    // The usual generator knows its own process's names alone, and answers nothing to those of the one before.
    config.cid_generator(|| Box::new(ConnectionIds));
    config
}

/// Names of connections that say nothing, and that any process of this device takes for its own.
struct ConnectionIds;

impl quinn::ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        let mut bytes = [0; CONNECTION_ID_BYTES];
        if aws_lc_rs::default_provider().secure_random.fill(&mut bytes).is_err() {
            // Without random bytes there is no TLS either, and so no connection that had this name.
            tracing::error!("the system gives no random bytes");
        }
        quinn::ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

fn rustls_hmac(key: &[u8; 64]) -> Arc<dyn quinn::crypto::HmacKey> {
    Arc::new(Blake3Hmac(*blake3::hash(key).as_bytes()))
}

/// The keyed hash behind stateless resets (RFC 9000, 10.3.2): BLAKE3's keyed mode is a MAC.
struct Blake3Hmac([u8; 32]);

impl quinn::crypto::HmacKey for Blake3Hmac {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let mut output = blake3::Hasher::new_keyed(&self.0).update(data).finalize_xof();
        output.fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        let mut expected = vec![0; signature.len()];
        self.sign(data, &mut expected);
        // Reset tokens are compared by whoever receives them, over the network: time says nothing here.
        if expected == signature { Ok(()) } else { Err(quinn::crypto::CryptoError) }
    }
}

/// The device at the other end, as the handshake proved it.
pub(super) fn peer(connection: &quinn::Connection) -> Option<DeviceId> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast_ref::<Vec<CertificateDer<'static>>>()?;
    device_of(chain.first()?)
}

fn device_of(spki: &[u8]) -> Option<DeviceId> {
    DeviceId::try_from(spki.strip_prefix(&SPKI_PREFIX)?).ok()
}

/// Takes a device key, or one device's key; the handshake's signature proves that the peer holds it.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    expected: Option<DeviceId>,
}

impl Verifier {
    fn check(&self, key: &CertificateDer<'_>) -> Result<(), Error> {
        let device = device_of(key).ok_or_else(|| Error::General("not an Ed25519 raw public key".into()))?;
        match self.expected {
            Some(expected) if expected != device => {
                Err(Error::General(format!("another device answers there: {device}")))
            }
            _ => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signature.scheme != SignatureScheme::ED25519 {
            return Err(Error::General("only Ed25519 signs here".into()));
        }
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(key.as_ref()),
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
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
        self.check_signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
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
        self.check_signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
