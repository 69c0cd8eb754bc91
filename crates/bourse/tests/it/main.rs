//! The program as people and scripts use it: started, asked, stopped and killed.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod buyer;
mod cli;
#[expect(dead_code, reason = "tests of the exchange ask it for more")]
#[path = "../../../bourse-exchange/tests/cluster/mod.rs"]
mod cluster;
mod gateways;
mod market;
mod program;
mod project;
mod real_model;
mod seller;
mod standby;

/// Price of the seller's model in USD per token: a cent per thousand either way, easy to read in a bill.
const PRICE: &str = "0.00001";
/// What the seller's model is called.
const MODEL: &str = "test/echo";

/// A configuration that resells one seller and nothing else.
fn resale(base_url: &str) -> String {
    format!(
        "[[provider]]\nname = \"echo\"\nkind = \"openai\"\nbase_url = \"{base_url}\"\n\
         [[provider.model]]\nid = \"{MODEL}\"\nprice_prompt = \"{PRICE}\"\nprice_completion = \"{PRICE}\"\n\
         context_tokens = 4096\n"
    )
}
