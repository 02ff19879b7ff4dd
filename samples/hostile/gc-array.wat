;; case: G06
;; does: makes arrays of the GC proposal
;; world: module
;; gets: refused
(module (type $a (array (mut i32))) (func (drop (array.new $a (i32.const 0) (i32.const 1073741824)))))
