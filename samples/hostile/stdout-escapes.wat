;; case: G11
;; does: prints terminal escapes, NUL and bytes that are no text, then answers
;; world: http
;; gets: answers 200
(module
  (import "wasi:cli/stdout@0.2.12" "get-stdout" (func $stdout (result i32)))
  (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
    (func $print (param i32 i32 i32 i32)))
  ;;@answer
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (data (i32.const 64) "\1b]0;owned\07\1b[2J\00\ff\fe 2026 app[web.1]\n")
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (call $print (call $stdout) (i32.const 64) (i32.const 29) (i32.const 0))
    (call $answer (local.get $out) (i32.const 200))))
