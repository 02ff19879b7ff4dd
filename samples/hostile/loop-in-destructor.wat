;; case: G02
;; does: is a worker that loops in the destructor of a resource
;; world: component
;; limits: cpu=50
;; gets: runs
(component
  (core module $spinner (func (export "destructor") (param i32) (loop (br 0))))
  (core instance $spinning (instantiate $spinner))
  (type $resource (resource (rep i32) (dtor (core func $spinning "destructor"))))
  (core func $new (canon resource.new $resource))
  (core func $drop (canon resource.drop $resource))
  (core module $main
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "run") (result i32) (call $drop (call $new (i32.const 1))) (i32.const 0)))
  (core instance $running
    (instantiate $main (with "" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func $run (result (result)) (canon lift (core func $running "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.12" (instance $exported)))
