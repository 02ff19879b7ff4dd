;; case: G11
;; does: prints lines without end
;; world: http
;; limits: fuel=1000T request_ms=300
;; gets: call H12
(module
  (import "wasi:cli/stdout@0.2.12" "get-stdout" (func $stdout (result i32)))
  (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
    (func $print (param i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (data (i32.const 64) "aaa\n")
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (local $s i32) (local.set $s (call $stdout))
    (loop (call $print (local.get $s) (i32.const 64) (i32.const 4) (i32.const 0)) (br 0))))
