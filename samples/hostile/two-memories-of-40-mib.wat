;; case: G04
;; does: asks for two memories of 40 MiB under a limit of 64 MiB
;; world: http
;; limits: memory=64M
;; gets: start R14
(module
  (memory (export "memory") 640)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (memory $second 640)
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
))
