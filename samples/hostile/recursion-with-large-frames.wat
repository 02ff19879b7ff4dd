;; case: G03
;; does: calls itself without end with sixteen values on each frame
;; world: http
;; gets: call R21
(module
  (func $deeper (param i64 i64 i64 i64 i64 i64 i64 i64) (result i64)
    (i64.add (local.get 0) (call $deeper (i64.add (local.get 0) (i64.const 0)) (i64.add (local.get 1) (i64.const 1)) (i64.add (local.get 2) (i64.const 2)) (i64.add (local.get 3) (i64.const 3)) (i64.add (local.get 4) (i64.const 4)) (i64.add (local.get 5) (i64.const 5)) (i64.add (local.get 6) (i64.const 6)) (i64.add (local.get 7) (i64.const 7)))))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (drop (call $deeper (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)))))
