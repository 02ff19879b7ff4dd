;; case: G26
;; does: is a 0.3 worker that loops without end
;; world: command3
;; limits: cpu=50
;; gets: runs
(module

  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "[callback][async-lift]wasi:cli/run@0.3.0#run") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "[async-lift]wasi:cli/run@0.3.0#run") (result i32)
    (loop (br 0))
    (unreachable)))
