;; case: G03
;; does: is a worker that calls itself without end
;; world: command
;; gets: exit R21
(module
  (func $deeper (call $deeper))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:cli/run@0.2.12#run") (result i32)
    (call $deeper) (i32.const 0)))
