//! What there is to buy, in an SQL database. Nothing is sold that is not there.
//!
//! ```text
//! GET  /products             all of them
//! PUT  /products/SKU         {"name", "cents", "count"}: adds it, or changes it
//! POST /sales                {"SKU": count, …}: takes all of it from the stock, or nothing
//! ```

use std::collections::BTreeMap;

use gilliam::Statement;
use serde::{Deserialize, Serialize};
use shop_web::{Answer, Request};
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{IncomingRequest, ResponseOutparam},
};

const TABLE: &str = "create table if not exists products (
    sku text primary key, name text not null, cents integer not null, count integer not null check (count >= 0))";

struct Stock;

wasip2::http::proxy::export!(Stock);

impl Guest for Stock {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let answer = Request::read(&request).and_then(|request| gilliam::wait(answer(&request)));
        answer.unwrap_or_else(|refused| refused).send(out);
    }
}

#[derive(Serialize, Deserialize)]
struct Product {
    #[serde(default)]
    sku: String,
    name: String,
    cents: u32,
    count: u32,
}

async fn answer(request: &Request) -> Result<Answer, Answer> {
    let db = gilliam::sql("db");
    db.query(TABLE, ()).await.map_err(unavailable)?;
    match request.parts() {
        ("GET", path) if path == ["products"] => {
            let rows = db
                .query("select sku, name, cents, count from products order by sku", ())
                .await;
            let products: Vec<Product> = rows.and_then(|rows| rows.read()).map_err(unavailable)?;
            Ok(Answer::json(200, &products))
        }
        ("PUT", path) if path.len() == 2 && path[0] == "products" => {
            let product: Product = request.json()?;
            let values = (path[1], &product.name, product.cents, product.count);
            db.query("insert or replace into products values (?, ?, ?, ?)", values)
                .await
                .map_err(unavailable)?;
            Ok(Answer::text(201, "it is there"))
        }
        ("POST", path) if path == ["sales"] => {
            let wanted: BTreeMap<String, u32> = request.json()?;
            // The check of the table fails a sale of more than there is, and with it the whole transaction. What is
            // not known at all changes no row, so it is asked for first.
            let mut statements = Vec::new();
            for (sku, count) in &wanted {
                let known = db
                    .query("select name from products where sku = ?", (sku,))
                    .await
                    .map_err(unavailable)?;
                if known.rows.is_empty() {
                    return Err(Answer::text(404, format!("there is no {sku}")));
                }
                let take = Statement::new(
                    "update products set count = count - ? where sku = ?",
                    (count, sku),
                );
                statements.push(take.map_err(unavailable)?);
            }
            match db.batch(&statements).await {
                Ok(_) => Ok(Answer::text(200, "sold")),
                Err(error) if error.status() == Some(409) => {
                    Err(Answer::text(409, "there is not enough of it"))
                }
                Err(error) => Err(unavailable(error)),
            }
        }
        _ => Err(Answer::text(404, "not found")),
    }
}

fn unavailable(error: gilliam::Error) -> Answer {
    Answer::text(503, error)
}
