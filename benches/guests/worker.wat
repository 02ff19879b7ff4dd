;; A command that waits in a host call for ever, as a worker without a job does. Two pages of memory, of which a page each
;; of stack, data and heap has been touched: what a small Rust program with a stack of 16 KiB looks like.
(module
  (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $subscribe (param i64) (result i32)))
  (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 16384) "a page of data")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768))
  (func (export "wasi:cli/run@0.2.12#run") (result i32)
    (i32.store8 (i32.const 16000) (i32.const 1))
    (i32.store8 (i32.const 20000) (i32.const 1))
    (i32.store8 (i32.const 32768) (i32.const 1))
    ;; A hundred years.
    (call $block (call $subscribe (i64.const 3153600000000000000)))
    (i32.const 0)))
