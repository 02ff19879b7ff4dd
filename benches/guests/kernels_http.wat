;; Fields around the kernels that make them a web process for WASI 0.2: `/3` runs the fourth kernel and answers with the
;; nanoseconds it took. KERNELS stands for the kernels' fields, ROUNDS_0 … for how much each is to do.
(module
  (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.12" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
  (import "wasi:http/types@0.2.12" "[method]outgoing-response.body" (func $body (param i32 i32)))
  (import "wasi:http/types@0.2.12" "[method]outgoing-body.write" (func $write (param i32 i32)))
  (import "wasi:http/types@0.2.12" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.12" "[static]response-outparam.set"
    (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.12" "[method]incoming-request.path-with-query" (func $path (param i32 i32)))
  (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
    (func $send (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.12" "[resource-drop]output-stream" (func $drop-stream (param i32)))
  (import "wasi:clocks/monotonic-clock@0.2.12" "now" (func $now (result i64)))
  KERNELS
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (local $made i32) (local $stream i32) (local $text i32)
    (call $path (local.get $request) (i32.const 16))
    (local.set $text (call $timed (i32.sub (i32.load8_u (i32.add (i32.load (i32.const 20)) (i32.const 1)))
      (i32.const 48))))
    (local.set $made (call $response (call $fields)))
    (call $body (local.get $made) (i32.const 0))
    (call $set (local.get $out) (i32.const 0) (local.get $made)
      (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $write (i32.load (i32.const 4)) (i32.const 8))
    (local.set $stream (i32.load (i32.const 12)))
    (call $send (local.get $stream) (local.get $text) (i32.sub (i32.const 4096) (local.get $text)) (i32.const 32))
    (call $drop-stream (local.get $stream))
    (call $finish (i32.load (i32.const 4)) (i32.const 0) (i32.const 0) (i32.const 40)))
  TIMED)
