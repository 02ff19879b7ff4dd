;; case: G05
;; does: has a table with 64-bit indices
;; world: module
;; gets: refused
(module (table i64 1 funcref))
