//! Nodes whose frames count more than their text has.

use super::super::recount::strict;
use super::*;
use bourse_wire::receipt::Receipt;

/// The receipt of a streamed chat that a node answers with three words in one frame of so many tokens.
async fn answered(tokens: u32, prompt: u64, sworn: u64) -> Receipt {
    let house = house_with(|config| config.tokenizers = vec![strict(0)]);
    let mut node = FakeNode::join(&house, 4).await;
    let (reply, ()) = tokio::join!(house.chat(r#","stream":true"#), async {
        let request = node.job().await.request;
        let begun = Frame::Started(Started { request, prompt_tokens: prompt, cached_tokens: 0 });
        let text = "one two three".to_owned();
        let finish = Some(NodeFinish::Stop);
        let said = Frame::Delta(Delta { request, choice: 0, text, tokens, logprobs_json: None, finish });
        let done = node.done(request, prompt, sworn);
        node.say(vec![begun, said, done]).await;
    });
    assert_eq!(reply.status, 200, "{}", reply.text);
    house.funds.receipts().remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_node_is_paid_for_its_text_and_not_for_its_frames() {
    let check = async |(tokens, prompt, sworn), billed: (u64, u64), is_suspended| {
        let receipt = answered(tokens, prompt, sworn).await;
        let usage = receipt.usage_billed;
        assert_eq!((usage.prompt.0, usage.completion.0), billed, "{tokens} {prompt} {sworn}");
        assert_eq!(receipt.is_suspended(), is_suspended, "{tokens} {prompt} {sworn}");
        let recount = receipt.recount.unwrap();
        assert_eq!((recount.prompt.unwrap().0, recount.completion.unwrap().0), (12, 3));
    };
    check((3, 12, 3), (12, 3), false).await;
    check((5, 12, 5), (12, 5), false).await;
    check((6, 12, 6), (12, 5), true).await;
    check((3, 24, 3), (12, 3), true).await;
    // It swears to more than its frames said.
    check((3, 12, 6), (12, 3), true).await;
    check((1, 4, 1), (4, 1), false).await;
}
