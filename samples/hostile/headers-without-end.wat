;; case: G08
;; does: appends one header a million times, then answers
;; world: http
;; limits: fuel=20G
;; gets: call R22
(module
  (import "wasi:http/types@0.2.12" "[method]fields.append"
    (func $append (param i32 i32 i32 i32 i32 i32)))
  ;;@answer
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (data (i32.const 64) "xabcdefgh")
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (local $list i32) (local $left i32)
    (local.set $list (call $fields))
    (local.set $left (i32.const 1000000))
    (loop $more
      (call $append (local.get $list) (i32.const 64) (i32.const 1) (i32.const 65) (i32.const 8) (i32.const 16))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $more (local.get $left)))
    (call $answer (local.get $out) (i32.const 200))))
