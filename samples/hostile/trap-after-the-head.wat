;; case: G22
;; does: traps when its head is sent and its body is not
;; world: http
;; gets: breaks R23
(module
  ;;@answer
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (drop (call $open (local.get $out)))
    (unreachable)))
