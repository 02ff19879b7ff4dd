;; case: G07
;; does: is a 0.3 worker that makes sets of events and drops none
;; world: command3
;; gets: exit R22
(module
  (import "$root" "[waitable-set-new]" (func $set (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "[callback][async-lift]wasi:cli/run@0.3.0#run") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "[async-lift]wasi:cli/run@0.3.0#run") (result i32)
    (loop (drop (call $set)) (br 0))
    (unreachable)))
