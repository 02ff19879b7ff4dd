;; case: G21
;; does: answers with the status 99
;; world: http
;; gets: answers 200
(module
  ;;@answer
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (call $answer (local.get $out) (i32.const 99))))
