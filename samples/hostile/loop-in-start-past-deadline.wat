;; case: G02
;; does: loops in its start function with more fuel than time
;; world: http
;; limits: fuel=1000T boot_ms=300
;; gets: start R10
(module
  (func $spin (loop (br 0)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (start $spin)
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
))
