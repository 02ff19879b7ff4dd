;; case: G09
;; does: writes nothing to its answer's body ten million times
;; world: http
;; limits: fuel=50M
;; gets: breaks R23
(module
  ;;@answer
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (local $stream i32)
    (local.set $stream (call $open (local.get $out)))
    (loop (call $write-bytes (local.get $stream) (i32.const 0) (i32.const 0) (i32.const 32)) (br 0))))
