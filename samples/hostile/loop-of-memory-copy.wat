;; case: G01
;; does: copies half its memory over the other half, over and over
;; world: http
;; limits: fuel=1000T request_ms=300
;; gets: call H12
(module
  (memory (export "memory") 64)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (loop (memory.copy (i32.const 0) (i32.const 2097152) (i32.const 2097152)) (br 0))))
