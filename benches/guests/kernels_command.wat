;; Fields around the kernels that make them a command for WASI 0.2: it runs every kernel ROUNDS_ALL times and prints for
;; each `kernel 3 1234567`, the nanoseconds it took; then it waits, as a worker does.
(module
  (import "wasi:cli/stdout@0.2.12" "get-stdout" (func $stdout (result i32)))
  (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
    (func $send (param i32 i32 i32 i32)))
  (import "wasi:clocks/monotonic-clock@0.2.12" "now" (func $now (result i64)))
  (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $subscribe (param i64) (result i32)))
  (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
  KERNELS
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:cli/run@0.2.12#run") (result i32)
    (local $out i32) (local $round i32) (local $kernel i32) (local $text i32)
    (local.set $out (call $stdout))
    (loop $rounds
      (local.set $kernel (i32.const 0))
      (loop $kernels
        (local.set $text (i32.sub (call $timed (local.get $kernel)) (i32.const 9)))
        (i64.store (local.get $text) (i64.const 0x206c656e72656b)) ;; "kernel "
        (i32.store8 (i32.add (local.get $text) (i32.const 7)) (i32.add (i32.const 48) (local.get $kernel)))
        (i32.store8 (i32.add (local.get $text) (i32.const 8)) (i32.const 32))
        (i32.store8 (i32.const 4096) (i32.const 10))
        (call $send (local.get $out) (local.get $text) (i32.sub (i32.const 4097) (local.get $text)) (i32.const 32))
        (local.set $kernel (i32.add (local.get $kernel) (i32.const 1)))
        (br_if $kernels (i32.lt_u (local.get $kernel) (i32.const 6))))
      (local.set $round (i32.add (local.get $round) (i32.const 1)))
      (br_if $rounds (i32.lt_u (local.get $round) (i32.const ROUNDS_ALL))))
    (call $block (call $subscribe (i64.const 3153600000000000000)))
    (i32.const 0))
  TIMED)
