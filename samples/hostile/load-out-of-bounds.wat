;; case: G04
;; does: reads one byte behind its memory, with the largest static offset
;; world: http
;; gets: call R23
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (drop (i32.load8_u offset=4294967295 (i32.const -1)))))
