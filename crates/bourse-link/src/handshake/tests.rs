//! The handshake from both sides over in-memory pipes, and what each refuses.

use super::*;
use bourse_types::{Digest32, ModelSlug};
use ed25519_dalek::{Signer as _, SigningKey};
use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};

type MemoryLink = FramedLink<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;

const PATIENCE: Duration = Duration::from_mins(1);
const CHALLENGE: [u8; 32] = [7; 32];

fn links() -> (MemoryLink, MemoryLink) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    (FramedLink::over(near), FramedLink::over(far))
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn node_id() -> NodeId {
    NodeId(key().verifying_key().to_bytes())
}

fn sign(bytes: &[u8]) -> [u8; 64] {
    key().sign(bytes).to_bytes()
}

fn card() -> NodeCard {
    NodeCard {
        model: ModelSlug::parse("author/model").unwrap(),
        model_commitment: Digest32([1; 32]),
        context_tokens_max: 2048,
        jobs_in_flight_max: 8,
        bytes_per_token_min: 1,
        template_tokens_max: 16,
        gpus: Some(0),
        engine: "fake/1".to_owned(),
    }
}

fn hello(challenge: &[u8; 32]) -> Hello {
    Hello {
        version: NODE_PROTOCOL_VERSION,
        node: NodeId(key().verifying_key().to_bytes()),
        signature: key().sign(&challenge_bytes(challenge)).to_bytes(),
        card: card(),
    }
}

async fn answer_with(frame: Frame) -> (Result<Hello, LinkError>, Option<Frame>) {
    let (mut gateway, mut node) = links();
    let node_side = async {
        assert_eq!(node.reader.next().await.unwrap(), Some(Frame::Challenge(CHALLENGE)));
        node.writer.send(&frame).await.unwrap();
        node
    };
    let (result, mut node) = tokio::join!(challenge_node(&mut gateway, CHALLENGE, PATIENCE), node_side);
    drop(gateway);
    (result, node.reader.next().await.ok().flatten())
}

#[tokio::test]
async fn a_proven_node_is_welcomed() {
    let (mut gateway, mut node) = links();
    let gateway_side = async {
        let hello = challenge_node(&mut gateway, CHALLENGE, PATIENCE).await?;
        welcome_node(&mut gateway, 5, PATIENCE).await?;
        Ok::<_, LinkError>(hello)
    };
    let (hello, welcome) =
        tokio::join!(gateway_side, greet_gateway(&mut node, node_id(), sign, card(), PATIENCE));
    let hello = hello.unwrap();
    assert_eq!(hello.node.0, key().verifying_key().to_bytes());
    assert_eq!(hello.card, card());
    assert_eq!(welcome.unwrap(), Welcome { version: NODE_PROTOCOL_VERSION, jobs_in_flight_max: 5 });
}

#[tokio::test]
async fn a_signature_over_something_else_is_refused() {
    let (result, _) = answer_with(Frame::Hello(hello(&[8; 32]))).await;
    assert!(matches!(result, Err(LinkError::Signature)));
}

#[tokio::test]
async fn a_signature_of_another_key_is_refused() {
    let mut forged = hello(&CHALLENGE);
    forged.node = NodeId(SigningKey::from_bytes(&[6; 32]).verifying_key().to_bytes());
    let (result, _) = answer_with(Frame::Hello(forged)).await;
    assert!(matches!(result, Err(LinkError::Signature)));
}

#[tokio::test]
async fn a_weak_key_proves_nothing() {
    let mut weak = hello(&CHALLENGE);
    weak.node = NodeId([0; 32]);
    weak.signature = [0; 64];
    let (result, _) = answer_with(Frame::Hello(weak)).await;
    assert!(matches!(result, Err(LinkError::Signature)));
}

#[tokio::test]
async fn another_version_is_refused_and_told_ours() {
    let mut other = hello(&CHALLENGE);
    other.version = 1;
    let (result, told) = answer_with(Frame::Hello(other)).await;
    assert!(matches!(result, Err(LinkError::Version { theirs: 1, ours: NODE_PROTOCOL_VERSION })));
    let ours = Welcome { version: NODE_PROTOCOL_VERSION, jobs_in_flight_max: 0 };
    assert_eq!(told, Some(Frame::Welcome(ours)));
}

#[tokio::test]
async fn another_frame_in_place_of_a_hello_is_refused() {
    let (result, _) = answer_with(Frame::Goodbye).await;
    assert!(matches!(result, Err(LinkError::Unexpected { expected: "hello" })));
}

#[tokio::test]
async fn a_stranger_may_not_send_large_frames() {
    let (mut gateway, far) = links();
    let mut raw = far.writer;
    let head = ((HANDSHAKE_FRAME_BYTES_MAX + 1) as u32).to_le_bytes();
    let (near, mut far) = tokio::io::duplex(64);
    let mut strict = FramedLink::over(near);
    far.write_all(&head).await.unwrap();
    let result = challenge_node(&mut strict, CHALLENGE, PATIENCE).await;
    assert!(matches!(result, Err(LinkError::FrameTooLong { bytes_max: HANDSHAKE_FRAME_BYTES_MAX, .. })));
    raw.send(&Frame::Hello(hello(&CHALLENGE))).await.unwrap();
    assert!(challenge_node(&mut gateway, CHALLENGE, PATIENCE).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_times_out_on_either_side() {
    let (mut gateway, mut node) = links();
    let silent = challenge_node(&mut gateway, CHALLENGE, Duration::from_millis(40)).await;
    assert!(matches!(silent, Err(LinkError::Timeout("hello", 40))));
    let silent = greet_gateway(&mut node, node_id(), sign, card(), Duration::from_millis(50)).await;
    assert!(matches!(silent, Err(LinkError::Timeout("welcome", 50))));
}

#[tokio::test]
async fn a_gateway_that_closes_has_refused() {
    let (mut gateway, mut node) = links();
    let gateway_side = async move {
        challenge_node(&mut gateway, CHALLENGE, PATIENCE).await.unwrap();
        gateway.writer.send(&Frame::Goodbye).await.unwrap();
    };
    let ((), result) =
        tokio::join!(gateway_side, greet_gateway(&mut node, node_id(), sign, card(), PATIENCE));
    assert!(matches!(result, Err(LinkError::Refused)));
}
