//! Sales, summed up as they are read: as many as there may be, one line at a time.

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
};

/// What was sold of a product.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    count: u64,
    cents: u64,
}

/// Reads sales and prints what each product brought; a line that is none is told of, and makes the report fail.
pub fn report(input: impl BufRead, out: &mut impl Write) -> Result<(), String> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    let mut bad = 0;
    for (n, line) in input.lines().enumerate() {
        let line = line.map_err(|error| format!("line {}: {error}", n + 1))?;
        match sale(&line) {
            Some((product, count, cents)) => {
                let sum = sums.entry(product.to_string()).or_default();
                sum.count += count;
                sum.cents += count * cents;
            }
            None if line.trim().is_empty() => {}
            None => {
                bad += 1;
                eprintln!("line {}: {line:?} is no DAY,PRODUCT,COUNT,PRICE", n + 1);
            }
        }
    }
    for (product, Sum { count, cents }) in &sums {
        writeln!(out, "{product:<20} {count:>8} {:>10}.{:02}", cents / 100, cents % 100)
            .map_err(|error| error.to_string())?;
    }
    match bad {
        0 => Ok(()),
        _ => Err(format!("{bad} lines were left out")),
    }
}

/// The product, the count and the price in cents of a line.
fn sale(line: &str) -> Option<(&str, u64, u64)> {
    let mut fields = line.split(',').map(str::trim);
    let (_day, product, count, price) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let (whole, cents) = price.split_once('.').unwrap_or((price, "00"));
    if fields.next().is_some() || product.is_empty() || cents.len() != 2 {
        return None;
    }
    let cents = whole.parse::<u64>().ok()?.checked_mul(100)? + cents.parse::<u64>().ok()?;
    Some((product, count.parse().ok()?, cents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sales_are_summed_up_by_product() {
        let input = "2026-11-20,tea,2,3.50\n2026-11-21,coffee,1,4.00\n\n2026-11-21,tea,1,3.50\n";
        let mut out = Vec::new();
        report(input.as_bytes(), &mut out).expect("a report");
        let text = String::from_utf8(out).expect("text");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["coffee", "1", "4.00", "tea", "3", "10.50"]);
    }

    #[test]
    fn what_is_no_sale_makes_the_report_fail() {
        for bad in ["tea", "d,tea,x,1.00", "d,tea,1,1.5", "d,,1,1.00", "d,tea,1,1.00,more"] {
            let error = report(bad.as_bytes(), &mut Vec::new()).expect_err(bad);
            assert_eq!(error, "1 lines were left out");
        }
    }
}
