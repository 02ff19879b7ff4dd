;; case: G01
;; does: calls itself in tail position without end
;; world: http
;; limits: fuel=50M
;; gets: call R20
(module
  (func $again (return_call $again))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (call $again)))
