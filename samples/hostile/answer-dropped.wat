;; case: G22
;; does: drops the place for its answer
;; world: http
;; gets: call H13
(module
  (import "wasi:http/types@0.2.12" "[resource-drop]response-outparam" (func $drop-out (param i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (call $drop-out (local.get $out))))
