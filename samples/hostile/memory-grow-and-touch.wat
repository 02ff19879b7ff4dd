;; case: G04
;; does: grows its memory and writes to all of it, then answers
;; world: http
;; limits: memory=32M
;; gets: answers 200
(module
  ;;@answer
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
    (local $at i32)
    (block $full
      (loop $more
        (br_if $full (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
        (local.set $at (i32.mul (i32.sub (memory.size) (i32.const 16)) (i32.const 65536)))
        (memory.fill (local.get $at) (i32.const 255) (i32.const 1048576))
        (br $more)))
    (call $answer (local.get $out) (i32.const 200))))
