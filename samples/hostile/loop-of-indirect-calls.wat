;; case: G01
;; does: calls itself through a table in a loop
;; world: http
;; limits: fuel=50M
;; gets: call R20
(module
  (type $f (func))
  (table 1 funcref)
  (elem (i32.const 0) $nothing)
  (func $nothing)
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (loop (call_indirect (type $f) (i32.const 0)) (br 0))))
