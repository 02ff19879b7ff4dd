//! What customers see: it asks the apps `stock` and `baskets`, and keeps pictures as blobs.
//!
//! ```text
//! GET  /                          what there is
//! PUT  /pictures/SKU              its picture
//! GET  /pictures/SKU
//! POST /baskets/ID/SKU            one more into a basket
//! POST /baskets/ID/buy            buys what is in it
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use shop_web::{Answer, Request};
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{IncomingRequest, ResponseOutparam},
};

struct Front;

wasip2::http::proxy::export!(Front);

impl Guest for Front {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let answer = Request::read(&request).and_then(|request| gilliam::wait(answer(&request)));
        answer.unwrap_or_else(|refused| refused).send(out);
    }
}

#[derive(Deserialize)]
struct Product {
    sku: String,
    name: String,
    cents: u32,
    count: u32,
}

async fn answer(request: &Request) -> Result<Answer, Answer> {
    match request.parts() {
        ("GET", path) if path.is_empty() => products().await,
        ("PUT", path) if path.len() == 2 && path[0] == "pictures" => {
            let pictures = gilliam::blobs("pictures");
            pictures
                .put(path[1], request.body.clone())
                .await
                .map_err(unavailable)?;
            Ok(Answer::text(201, "it is there"))
        }
        ("GET", path) if path.len() == 2 && path[0] == "pictures" => {
            let picture = gilliam::blobs("pictures")
                .get(path[1])
                .await
                .map_err(unavailable)?;
            let picture = picture.ok_or_else(|| Answer::text(404, "there is no such picture"))?;
            Ok(Answer::bytes("image/png", picture))
        }
        ("POST", path) if path.len() == 3 && path[0] == "baskets" && path[2] == "buy" => buy(path[1]).await,
        ("POST", path) if path.len() == 3 && path[0] == "baskets" => {
            let added = gilliam::app("baskets")
                .post(&format!("/baskets/{}/{}", path[1], path[2]))
                .send()
                .await;
            passed_on(added.map_err(unavailable)?).await
        }
        _ => Err(Answer::text(404, "not found")),
    }
}

async fn products() -> Result<Answer, Answer> {
    let products = gilliam::app("stock")
        .get("/products")
        .send()
        .await
        .map_err(unavailable)?;
    let products: Vec<Product> = products
        .ok()
        .await
        .map_err(unavailable)?
        .json()
        .await
        .map_err(unavailable)?;
    let line = |p: &Product| {
        format!(
            "{}: {}, {}.{:02}, {} left",
            p.sku,
            p.name,
            p.cents / 100,
            p.cents % 100,
            p.count
        )
    };
    let lines: Vec<String> = products.iter().map(line).collect();
    Ok(Answer::text(200, lines.join("\n")))
}

/// Sells what is in a basket, whole, and empties it.
async fn buy(id: &str) -> Result<Answer, Answer> {
    let (baskets, basket) = (gilliam::app("baskets"), format!("/baskets/{id}"));
    let wanted = baskets.get(&basket).send().await.map_err(unavailable)?;
    let wanted: BTreeMap<String, u32> = wanted
        .ok()
        .await
        .map_err(unavailable)?
        .json()
        .await
        .map_err(unavailable)?;
    if wanted.is_empty() {
        return Err(Answer::text(409, "the basket is empty"));
    }
    let sale = gilliam::app("stock")
        .post("/sales")
        .json(&wanted)
        .map_err(unavailable)?;
    let sale = sale.send().await.map_err(unavailable)?;
    if sale.status() == 200 {
        baskets
            .request("DELETE", &basket)
            .send()
            .await
            .map_err(unavailable)?;
    }
    passed_on(sale).await
}

/// What another app answered.
async fn passed_on(response: gilliam::http::Response) -> Result<Answer, Answer> {
    let status = response.status();
    let text = response.text().await.map_err(unavailable)?;
    Ok(Answer::text(status, text.trim_end()))
}

fn unavailable(error: gilliam::Error) -> Answer {
    Answer::text(503, error)
}
