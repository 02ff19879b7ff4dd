//! The crate carries the platform's interface of workers, word for word.

use std::path::Path;

#[test]
fn the_interface_is_that_of_the_platform() {
    let own = include_str!("../wit/worker.wit");
    let of_platform = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/worker/worker.wit");
    let of_platform = std::fs::read_to_string(of_platform).expect("the repository around the crate");
    let interface = |text: &str| {
        let end = text.find("\n}\n").expect("the end of the interface");
        text[..end].to_owned()
    };
    assert_eq!(interface(own), interface(&of_platform));
}
