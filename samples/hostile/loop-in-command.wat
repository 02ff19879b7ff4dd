;; case: G01
;; does: is a worker that loops without end: throttled to its share, never ended
;; world: command
;; limits: cpu=50
;; gets: runs
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:cli/run@0.2.12#run") (result i32)
    (loop (br 0)) (unreachable)))
