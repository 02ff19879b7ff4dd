;; case: G03
;; does: calls the host from within its allocator, which the host called
;; world: http
;; gets: call R23
(module
  (import "wasi:http/types@0.2.12" "[method]incoming-request.path-with-query" (func $path (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (call $path (i32.const 0) (i32.const 0)) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (call $path (local.get $request) (i32.const 0))))
