;; case: G10
;; does: is a 0.3 worker that asks for all the random bytes there are
;; world: command3
;; gets: exit R22
(module
  (import "wasi:random/random@0.3.0" "get-random-bytes" (func $random (param i64 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "[callback][async-lift]wasi:cli/run@0.3.0#run") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "[async-lift]wasi:cli/run@0.3.0#run") (result i32)
    (call $random (i64.const -1) (i32.const 0))
    (i32.const 0)))
