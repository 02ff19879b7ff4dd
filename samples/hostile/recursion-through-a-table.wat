;; case: G03
;; does: calls itself without end through a table
;; world: http
;; gets: call R21
(module
  (type $f (func))
  (table 1 funcref)
  (elem (i32.const 0) $deeper)
  (func $deeper (call_indirect (type $f) (i32.const 0)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (call $deeper)))
