;; case: G30
;; does: is a worker that traps at once
;; world: command
;; gets: exit R23
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:cli/run@0.2.12#run") (result i32)
    (unreachable)))
