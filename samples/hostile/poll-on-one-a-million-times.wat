;; case: G12
;; does: polls a list that names one timer a million times
;; world: http
;; limits: request_ms=1000
;; gets: call R22
(module
  (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $after (param i64) (result i32)))
  (import "wasi:io/poll@0.2.12" "poll" (func $poll (param i32 i32 i32)))
  (memory (export "memory") 70)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (local $timer i32) (local $at i32)
    (local.set $timer (call $after (i64.const -1)))
    (local.set $at (i32.const 4194304))
    (loop $more
      (local.set $at (i32.sub (local.get $at) (i32.const 4)))
      (i32.store (local.get $at) (local.get $timer))
      (br_if $more (i32.gt_u (local.get $at) (i32.const 65536))))
    (call $poll (i32.const 65536) (i32.const 1000000) (i32.const 16))))
