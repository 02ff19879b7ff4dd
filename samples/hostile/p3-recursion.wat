;; case: G26
;; does: is a 0.3 worker that calls itself without end
;; world: command3
;; gets: exit R21
(module
  (func $deeper (call $deeper))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "[callback][async-lift]wasi:cli/run@0.3.0#run") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "[async-lift]wasi:cli/run@0.3.0#run") (result i32)
    (call $deeper)
    (i32.const 0)))
