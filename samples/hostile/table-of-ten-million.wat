;; case: G05
;; does: asks for a table of ten million elements
;; world: http
;; gets: too large
(module
  (table $t 10000000 funcref)
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
))
