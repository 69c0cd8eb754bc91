//! Calls that administer, sent twice.

use crate::house::House;
use bourse_exchange::{AdminReply, AdminRequest, NewKey};
use bourse_gateway::{Clock as _, SystemClock};
use bourse_sim::client::{call, request};
use bourse_sim::upstream::SellerConfig;
use serde_json::json;

#[tokio::test]
async fn a_key_that_is_asked_for_twice_is_made_once() {
    let house = House::open(vec![SellerConfig::new("one", "acme/one")], "1").await;
    let create = AdminRequest::CreateKey(NewKey {
        label: "manager".to_owned(),
        account: Some("buyer".to_owned()),
        management: true,
        ..NewKey::default()
    });
    let Ok(AdminReply::KeyCreated { secret, .. }) = house.exchange.admin(create, SystemClock.now()) else {
        panic!("no key was made");
    };
    let authorization = format!("Bearer {}", secret.0);
    let make = |key: &str, name: &str| {
        let body = json!({"name": name}).to_string();
        let fields = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        request("POST", "/v1/keys", &fields, body.as_bytes())
    };
    let first = call(house.address, &make("a", "one")).await.expect("an answer");
    assert_eq!(first.status, 201, "{}", first.text());
    let house = house.restarted().await;
    let again = call(house.address, &make("a", "one")).await.expect("an answer");
    assert_eq!((again.status, &again.body), (201, &first.body), "the same key, shown again to its maker");
    let other = call(house.address, &make("a", "two")).await.expect("an answer");
    assert_eq!(other.status, 409, "{}", other.text());
    let second = call(house.address, &make("b", "one")).await.expect("an answer");
    assert!(second.status == 201 && second.body != first.body);
    house.close(0).await;
}
