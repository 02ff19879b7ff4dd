//! What customers want to buy, in a key-value service: kept for an hour.
//!
//! ```text
//! GET    /baskets/ID         {"SKU": count, …}
//! POST   /baskets/ID/SKU     one more of it
//! DELETE /baskets/ID
//! ```

use std::collections::BTreeMap;

use shop_web::{Answer, Request};
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{IncomingRequest, ResponseOutparam},
};

/// Two customers' clicks at the same time are one of them after the other; so many in a row do not happen.
const TRIES_MAX: usize = 10;

struct Baskets;

wasip2::http::proxy::export!(Baskets);

impl Guest for Baskets {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let answer = Request::read(&request).and_then(|request| gilliam::wait(answer(&request)));
        answer.unwrap_or_else(|refused| refused).send(out);
    }
}

type Basket = BTreeMap<String, u32>;

async fn answer(request: &Request) -> Result<Answer, Answer> {
    let baskets = gilliam::keyvalue("baskets");
    match request.parts() {
        ("GET", path) if path.len() == 2 && path[0] == "baskets" => {
            let basket: Option<Basket> = baskets.get(path[1]).await.map_err(unavailable)?;
            Ok(Answer::json(200, &basket.unwrap_or_default()))
        }
        ("POST", path) if path.len() == 3 && path[0] == "baskets" => add(path[1], path[2]).await,
        ("DELETE", path) if path.len() == 2 && path[0] == "baskets" => {
            baskets.delete(path[1]).await.map_err(unavailable)?;
            Ok(Answer::text(200, "it is empty"))
        }
        _ => Err(Answer::text(404, "not found")),
    }
}

/// One more of a product. Whoever else changed the basket meanwhile is not overwritten.
async fn add(id: &str, sku: &str) -> Result<Answer, Answer> {
    let baskets = gilliam::keyvalue("baskets");
    for _ in 0..TRIES_MAX {
        let was = baskets.entry::<Basket>(id).await.map_err(unavailable)?;
        let (mut basket, version) = match was {
            Some(entry) => (entry.value, Some(entry.version)),
            None => (Basket::new(), None),
        };
        *basket.entry(sku.to_owned()).or_default() += 1;
        let set = baskets.set(id, &basket);
        let set = match &version {
            Some(version) => set.if_still(version),
            None => set.if_absent(),
        };
        if set.await.map_err(unavailable)? {
            return Ok(Answer::json(200, &basket));
        }
    }
    Err(Answer::text(503, "the basket changes all the time; try again"))
}

fn unavailable(error: gilliam::Error) -> Answer {
    Answer::text(503, error)
}
