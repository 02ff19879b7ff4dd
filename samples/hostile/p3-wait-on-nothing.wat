;; case: G26
;; does: is a 0.3 worker that waits on an empty set of events
;; world: command3
;; limits: cpu=50
;; gets: runs
(module
  (import "$root" "[waitable-set-new]" (func $set (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "[callback][async-lift]wasi:cli/run@0.3.0#run") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "[async-lift]wasi:cli/run@0.3.0#run") (result i32)
    (i32.or (i32.const 2) (i32.shl (call $set) (i32.const 4)))))
