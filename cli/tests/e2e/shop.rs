//! The sample shop: three apps that use each other, with SQL, key-value and blobs.

use std::{sync::Arc, thread};

use crate::{
    client::{self, Answer},
    platform::Platform,
};

fn post(platform: &Platform, path: &str) -> Answer {
    client::post(platform, "front", path, "text/plain", "")
}

#[test]
fn customers_fill_baskets_and_nothing_is_sold_twice_whatever_dies() {
    let platform = Arc::new(Platform::start());
    for app in ["stock", "baskets", "front"] {
        platform.deploy(app, &format!("shop/{app}"), &["web=2"]);
    }
    let tea = r#"{"name": "Tea", "cents": 450, "count": 3}"#;
    assert_eq!(client::put(&platform, "stock", "/products/tea", tea).status, 201);
    assert_eq!(
        client::get(&platform, "front", "/").body,
        "tea: Tea, 4.50, 3 left\n"
    );
    assert_eq!(
        client::put(&platform, "front", "/pictures/tea", "a picture").status,
        201
    );

    // Four customers want one each, at once; each clicks twice at once and both clicks count.
    let customers = ["ada", "bob", "cyd", "dan"].map(|customer| {
        let platform = platform.clone();
        thread::spawn(move || {
            let clicks = [(), ()].map(|()| {
                let platform = platform.clone();
                thread::spawn(move || post(&platform, &format!("/baskets/{customer}/tea")))
            });
            let statuses = clicks.map(|click| click.join().expect("a click").status);
            assert_eq!(statuses, [200, 200]);
            post(&platform, &format!("/baskets/{customer}/buy")).status
        })
    });
    let mut bought = customers.map(|customer| customer.join().expect("a customer"));
    bought.sort_unstable();
    assert_eq!(bought, [200, 409, 409, 409], "two each, and there were three");
    assert_eq!(
        client::get(&platform, "front", "/").body,
        "tea: Tea, 4.50, 1 left\n"
    );
    assert_eq!(post(&platform, "/baskets/eve/coffee").status, 200);
    assert_eq!(post(&platform, "/baskets/eve/buy").body, "there is no coffee\n");
    assert_eq!(
        post(&platform, "/baskets/nobody/buy").body,
        "the basket is empty\n"
    );

    platform.kill_node();
    let left = client::wait_ok(&platform, "front", "/").body;
    assert_eq!(left, "tea: Tea, 4.50, 1 left\n", "what was answered was durable");
    assert_eq!(
        client::wait_ok(&platform, "front", "/pictures/tea").body,
        "a picture"
    );
    let stock = platform.json(&["sql", "db", "select count from products", "--app", "stock"]);
    assert_eq!(stock["rows"][0][0], 1, "{stock}");
    let baskets = platform.json(&["kv", "baskets", "ls", "--app", "baskets"]);
    assert_eq!(baskets["keys"].as_array().map(Vec::len), Some(4), "{baskets}");
}
