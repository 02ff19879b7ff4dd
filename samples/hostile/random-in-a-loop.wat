;; case: G10
;; does: asks for 64 KiB of random bytes over and over
;; world: http
;; limits: fuel=1000T request_ms=300
;; gets: call H12
(module
  (import "wasi:random/random@0.2.12" "get-random-bytes" (func $random (param i64 i32)))
  (memory (export "memory") 4)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (loop (call $random (i64.const 65536) (i32.const 0)) (br 0))))
