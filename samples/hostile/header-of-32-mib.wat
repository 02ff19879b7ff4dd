;; case: G08
;; does: appends one header of 32 MiB
;; world: http
;; gets: call R22
(module
  (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.12" "[method]fields.append"
    (func $append (param i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 600)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (data (i32.const 64) "x")
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (call $append (call $fields) (i32.const 64) (i32.const 1) (i32.const 65536) (i32.const 33554432) (i32.const 16))))
