;; case: G01
;; does: fills a table over and over
;; world: http
;; limits: fuel=1000T request_ms=300
;; gets: call H12
(module
  (table $t 10000 funcref)
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (loop (table.fill $t (i32.const 0) (ref.null func) (i32.const 10000)) (br 0))))
