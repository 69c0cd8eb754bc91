//! Conversations and the nodes that hold them, told apart by nothing but what they began with.

use super::*;
use crate::decisions::Anew;
use bourse_market::{DecisionEvent, JournalReader, ReplayReport, Replayer, Saving};
use std::collections::BTreeSet;

const NODES: [(&str, u8); 2] = [("near", 1), ("far", 2)];

/// A market that admits two nodes.
fn house() -> House {
    House::build(&[], 10_000_000_000, |config| {
        config.nodes.extend(NODES.map(|(seller, key)| NodeAdmission {
            node: bourse_types::NodeId(key_of(key).verifying_key().to_bytes()),
            seller: SellerName::parse(seller).unwrap(),
            prices: prices(1_000_000),
            free: bourse_market::Free::No,
            data: bourse_market::DataPolicy::NONE,
        }));
    })
}

fn key_of(key: u8) -> SigningKey {
    SigningKey::from_bytes(&[key; 32])
}

/// A node that answers every job with one word, until it is aborted.
async fn answering(house: &House, key: u8) -> JoinHandle<()> {
    let mut node = FakeNode::with_key(house, key_of(key), 4).await.unwrap();
    tokio::spawn(async move {
        while let Ok(Some(frame)) = node.link.reader.next().await {
            let Frame::Job(job) = frame else { continue };
            let id = job.request;
            let done = node.done(id, 12, 1);
            node.say(vec![started(id), delta(id, "ok", Some(NodeFinish::Stop)), done]).await;
        }
    })
}

/// A conversation that grows with every turn.
struct Talk(Vec<String>);

impl Talk {
    fn new() -> Self {
        Self(Vec::new())
    }

    /// Says something new, and tells who answered.
    async fn turn(&mut self, house: &House, words: &str) -> String {
        self.0.push(format!(r#"{{"role":"user","content":"{}"}}"#, words.repeat(1_500 / words.len())));
        let by = ask(house, &self.0, "").await;
        self.0.push(r#"{"role":"assistant","content":"ok"}"#.to_owned());
        by
    }
}

async fn ask(house: &House, messages: &[String], rest: &str) -> String {
    let messages = messages.join(",");
    let body = format!(r#"{{"model":"{MODEL}","max_tokens":1,"messages":[{messages}]{rest}}}"#);
    let reply = house.call("POST", "/v1/chat/completions", &[], &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["provider"].as_str().unwrap().to_owned()
}

/// Gives a node work that nobody else has seen: sixty prompts of eight blocks.
async fn work(house: &House, seller: &str) {
    for n in 0..60 {
        let message = format!(r#"{{"role":"user","content":"{}"}}"#, format!("{seller} {n:02} ").repeat(460));
        let by = ask(house, &[message], &format!(r#","provider":{{"only":["{seller}"]}}"#)).await;
        assert_eq!(by, seller);
    }
}

#[tokio::test(start_paused = true)]
async fn conversations_stay_with_the_node_that_holds_them() {
    let house = house();
    let mut journal = house.gateway.take_decisions(Anew::Yes).bytes().to_vec();
    let _nodes = (answering(&house, 1).await, answering(&house, 2).await);
    let mut talks: Vec<(Talk, String)> = Vec::new();
    for n in 0..6 {
        let mut talk = Talk::new();
        let by = talk.turn(&house, &format!("talk {n} begins ")).await;
        talks.push((talk, by));
    }
    let asked: BTreeSet<&str> = talks.iter().map(|(_, by)| by.as_str()).collect();
    assert_eq!(asked.len(), 2, "load spreads what nobody holds");
    for round in 0..4 {
        for (n, (talk, by)) in talks.iter_mut().enumerate() {
            assert_eq!(talk.turn(&house, &format!("talk {n} goes on {round} ")).await, *by, "talk {n}");
        }
    }
    journal.extend_from_slice(house.gateway.take_decisions(Anew::No).bytes());
    let mut replayer = Replayer::new(None);
    let mut report = ReplayReport::default();
    let mut led = 0;
    for event in JournalReader::new(&journal).unwrap() {
        let event = event.unwrap();
        if let DecisionEvent::Decision(record) = &event {
            led += u32::from(record.demand.as_demand().warmth.iter().any(|w| w.saving == Saving::Work));
        }
        report.add(&replayer.feed(event).unwrap());
    }
    assert_eq!((report.decisions, report.identical), (30, 30));
    assert!(led >= 24, "what the plans were led by is in the journal: {led}");
}

#[tokio::test(start_paused = true)]
async fn load_moves_a_conversation() {
    let house = house();
    let _nodes = (answering(&house, 1).await, answering(&house, 2).await);
    let mut talk = Talk::new();
    let first = talk.turn(&house, "it begins ").await;
    for n in 0..4 {
        assert_eq!(talk.turn(&house, &format!("and goes on {n} ")).await, first);
    }
    work(&house, &first).await;
    let second = talk.turn(&house, "and moves ").await;
    assert_ne!(second, first);
    assert_eq!(talk.turn(&house, "and stays there ").await, second);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_and_came_back_holds_nothing() {
    let house = house();
    let nodes = [answering(&house, 1).await, answering(&house, 2).await];
    let mut talk = Talk::new();
    let first = talk.turn(&house, "it begins ").await;
    for n in 0..4 {
        assert_eq!(talk.turn(&house, &format!("and goes on {n} ")).await, first);
    }
    let (at, other) = if first == NODES[0].0 { (0, NODES[1].0) } else { (1, NODES[0].0) };
    nodes[at].abort();
    let mut connected = house.gateway.nodes_connected();
    connected.wait_for(|count| *count == 1).await.unwrap();
    let _again = answering(&house, NODES[at].1).await;
    assert_eq!(*connected.borrow(), 2);
    // Some load, so that it would be asked only for what it held before.
    let message = format!(r#"{{"role":"user","content":"{}"}}"#, "something else ".repeat(500));
    ask(&house, &[message], &format!(r#","provider":{{"only":["{first}"]}}"#)).await;
    assert_eq!(talk.turn(&house, "and is begun anew ").await, other);
}
