//! Routes that do what a broken program does, to see the platform stop it while others are served.

use crate::request::Request;
use crate::response::Responder;
use std::hint::black_box;
use std::io;

/// How much `/grow` takes at a time.
const STEP_BYTES: usize = 1024 * 1024;

/// Computes for ever: stopped when the request's fuel is used up (R20).
pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns).wrapping_add(1);
    }
}

/// Takes memory until it gets no more (R14): an ordinary program then aborts, and so does this one.
/// With `?then=answer` it answers how far it came instead.
pub fn grow(request: &Request, respond: Responder) -> io::Result<()> {
    let go_on = request.param("then").as_deref() == Some("answer");
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = Vec::new();
        if go_on && block.try_reserve_exact(STEP_BYTES).is_err() {
            let taken = blocks.len();
            drop(blocks); // room to write the answer
            return respond.text(200, &format!("refused after {taken} MiB\n"));
        }
        block.resize(STEP_BYTES, 1);
        blocks.push(black_box(block));
    }
}

/// Calls itself until the stack is used up (R21).
pub fn recurse() -> ! {
    unreachable!("came back from depth {}", deeper(0));
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    if depth == u64::MAX {
        return depth;
    }
    // Something is left to do after the call, so that it cannot be turned into a loop.
    deeper(black_box(depth) + 1).rotate_left(1) ^ black_box(depth)
}

/// `/flood?lines=N` prints N lines as fast as it can: the log keeps its pace and tells what it left out (L12).
pub fn flood(request: &Request, respond: Responder) -> io::Result<()> {
    let lines = match request.number("lines") {
        Ok(lines) => lines,
        Err(line) => return respond.text(400, &line),
    };
    for line in 1..=lines {
        println!("line {line} of {lines}");
    }
    respond.text(200, &format!("printed {lines} lines\n"))
}

/// Runs into an instruction that cannot be executed (R23).
pub fn trap() -> ! {
    panic!("trap was asked for");
}
