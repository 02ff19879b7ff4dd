//! The compute kernels that `gilliam bench limits` runs with and without limits: the source of `kernels.wat`.
//!
//! Six loops of ordinary programs, from one that metering costs most (a loop body of a few instructions) to
//! one that it costs nothing (waiting for memory). Each takes the number of its rounds and returns what it
//! computed, so that no compiler leaves it out. Arrays are on the stack, which is large for that: no global,
//! no unsafe code. `scripts/bench-kernels` makes the text anew from this file.
#![no_std]
#![no_main]

use core::hint::black_box;

const SIEVE_BYTES: usize = 64 << 10;
const TEXT_BYTES: usize = 64 << 10;
const MATRIX: usize = 64;
/// 16 MiB of words: far more than a core's caches hold.
const WALK_WORDS: usize = 4 << 20;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// Primes below 65,536, by bytes: the tightest loop of all.
#[unsafe(no_mangle)]
pub extern "C" fn sieve(rounds: u32) -> u32 {
    let mut flags = [0u8; SIEVE_BYTES];
    let mut count = 0;
    for _ in 0..rounds {
        flags.fill(1);
        count = 0;
        for n in 2..SIEVE_BYTES {
            if flags[n] == 0 {
                continue;
            }
            count += 1;
            let mut multiple = n * 2;
            while multiple < SIEVE_BYTES {
                flags[multiple] = 0;
                multiple += n;
            }
        }
    }
    count
}

const K: [u32; 64] = constants();

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
const fn constants() -> [u32; 64] {
    let mut k = [0; 64];
    let (mut n, mut found) = (2u128, 0);
    while found < 64 {
        let (mut divisor, mut prime) = (2, true);
        while divisor * divisor <= n {
            if n % divisor == 0 {
                prime = false;
            }
            divisor += 1;
        }
        if prime {
            // The cube root of n * 2^96 is that of n, times 2^32.
            let (mut low, mut high) = (0u128, 1 << 36);
            while high - low > 1 {
                let middle = (low + high) / 2;
                if middle * middle * middle <= n << 96 {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            k[found] = (low & 0xffff_ffff) as u32;
            found += 1;
        }
        n += 1;
    }
    k
}

/// SHA-256's compression, one block a round.
#[unsafe(no_mangle)]
pub extern "C" fn sha256(rounds: u32) -> u32 {
    let mut state = [
        0x6a09_e667u32,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];
    let mut words = [0u32; 64];
    for round in 0..rounds {
        for (n, word) in words.iter_mut().enumerate().take(16) {
            *word = round.wrapping_mul(0x9e37_79b9) ^ n as u32;
        }
        for n in 16..64 {
            let (x, y) = (words[n - 15], words[n - 2]);
            let s0 = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
            let s1 = y.rotate_right(17) ^ y.rotate_right(19) ^ (y >> 10);
            words[n] = words[n - 16]
                .wrapping_add(s0)
                .wrapping_add(words[n - 7])
                .wrapping_add(s1);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        for n in 0..64 {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h
                .wrapping_add(s1)
                .wrapping_add(choice)
                .wrapping_add(K[n])
                .wrapping_add(words[n]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
            (d, c, b, a) = (c, b, a, t1.wrapping_add(t2));
        }
        for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word = word.wrapping_add(add);
        }
    }
    state[0]
}

/// Calls: the recursive Fibonacci number of 20.
#[unsafe(no_mangle)]
pub extern "C" fn fib(rounds: u32) -> u32 {
    let mut sum = 0u32;
    for _ in 0..rounds {
        sum = sum.wrapping_add(fib_of(black_box(20)));
    }
    sum
}

#[inline(never)]
extern "C" fn fib_of(n: u32) -> u32 {
    if n < 2 {
        n
    } else {
        fib_of(n - 1).wrapping_add(fib_of(n - 2))
    }
}

/// Words, lines and digits of a text, byte by byte.
#[unsafe(no_mangle)]
pub extern "C" fn scanner(rounds: u32) -> u32 {
    let mut text = [0u8; TEXT_BYTES];
    let mut seed = 1u32;
    for byte in text.iter_mut() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = b"the quick 12 brown\nfox"[(seed >> 16) as usize % 22];
    }
    let (mut words, mut lines, mut digits) = (0u32, 0u32, 0u32);
    for _ in 0..rounds {
        let mut inside = false;
        for byte in black_box(&text) {
            match byte {
                b' ' => inside = false,
                b'\n' => {
                    inside = false;
                    lines += 1;
                }
                b'0'..=b'9' => digits += 1,
                _ if !inside => {
                    inside = true;
                    words += 1;
                }
                _ => {}
            }
        }
    }
    words ^ lines ^ digits
}

/// Products of 64 × 64 matrices of f64.
#[unsafe(no_mangle)]
pub extern "C" fn matmul(rounds: u32) -> u32 {
    let (mut a, mut b, mut c) = (
        [0.0; MATRIX * MATRIX],
        [0.0; MATRIX * MATRIX],
        [0.0; MATRIX * MATRIX],
    );
    for n in 0..MATRIX * MATRIX {
        a[n] = n as f64;
        b[n] = 1.0 / (n + 1) as f64;
    }
    for _ in 0..rounds {
        for i in 0..MATRIX {
            for j in 0..MATRIX {
                let mut sum = 0.0;
                for k in 0..MATRIX {
                    sum += a[i * MATRIX + k] * b[k * MATRIX + j];
                }
                c[i * MATRIX + j] = sum;
            }
        }
        black_box(&c);
    }
    c[MATRIX + 1] as u32
}

/// Loads that each depend on the one before, over 16 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn memory_walk(rounds: u32) -> u32 {
    let mut walk = [0u32; WALK_WORDS];
    for (n, word) in walk.iter_mut().enumerate() {
        // A full-period congruence: every word is visited before one is visited twice.
        *word = ((n as u32).wrapping_mul(1_664_525).wrapping_add(1_013_904_223)) % WALK_WORDS as u32;
    }
    let mut at = 0u32;
    for _ in 0..rounds {
        for _ in 0..1_000 {
            at = walk[at as usize % WALK_WORDS];
        }
    }
    at
}
