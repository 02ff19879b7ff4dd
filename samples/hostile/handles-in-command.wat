;; case: G07
;; does: is a worker that makes timers and drops none
;; world: command
;; gets: exit R22
(module
  (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $after (param i64) (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:cli/run@0.2.12#run") (result i32)
    (loop (drop (call $after (i64.const 1000000000))) (br 0)) (unreachable)))
