/* test_facts.c - what is known at import of sizes of last axes: never what binding says otherwise, and all that
 * composite ops are expanded by. */
#include <criterion/criterion.h>

#include "frontend/facts.h"
#include "passes/probe_dims.h"
#include "support.h"

static PareFacts facts_of(Fix *f, const PareGraph *g) {
  PareFacts facts = {.arena = f->arena};
  for (const PareNode *n = g->first; n; n = n->next) cr_assert(pare_facts_infer(&facts, n));
  return facts;
}

/* Returns how many of the last axes of results are known. */
static int check_true(Fix *f, const char *what, const PareGraph *g) {
  PareFacts facts = facts_of(f, g);
  PareGraph *bound;
  int known = 0;
  for (int at = 0; at < 2; at++) {
    MUST(f, pare_probe_dims(&f->c, f->arena, g, at, &bound));
    for (const PareNode *n = g->first, *b = bound->first; n; n = n->next, b = b->next)
      for (int o = 0; o < n->nout; o++) {
        if (!n->out[o]) continue;
        PareFact is = pare_facts_of(&facts, n->out[o]);
        const PareType *t = &b->out[o]->type;
        for (int i = 0; i < PARE_TAIL; i++) {
          int64_t size = i < t->rank ? t->dim[t->rank - 1 - i] : 1;
          cr_expect(!is.tail[i] || is.tail[i] == size, "%s, node '%s', axis %d from the end: %lld, not %lld", what,
                    n->name, i, (long long)is.tail[i], (long long)size);
          known += is.tail[i] > 0;
        }
      }
  }
  return known;
}

Test(facts, know_how_wide_rows_are_behind_a_weight) {
  static const struct {
    const char *what, *text;
    int64_t last, before;
  } cases[] = {
      {"a product", "%y = MatMul(%x, %w)\n", 8, 0},
      {"a weight that is turned", "%t = Transpose(%w) {perm=[1,0]}\nconst %u : f32[8,6] = random(2)\n"
                                  "%v = Transpose(%u)\n%y = MatMul(%x, %v)\n", 8, 0},
      {"integers", "const %i : i8[6,8] = zeros\nconst %s : f32[] = 0.1\n%d = DequantizeLinear(%i, %s)\n"
                   "%m = MatMul(%x, %d)\nconst %z : u8[] = 3\n%q = QuantizeLinear(%m, %s, %z)\n"
                   "%y = DequantizeLinear(%q, %s, %z)\n", 8, 0},
      {"a bias and more", "const %b : f32[8] = random(2)\n%m = MatMul(%x, %w)\n%a = Add(%b, %m)\n%r = Relu(%a)\n"
                          "const %k : f32[] = 2\n%y = Mul(%k, %r)\n", 8, 0},
      {"rows of two dimensions", "const %n : i64[2] = -1 6\n%f = Reshape(%x, %n)\nconst %u : f32[8,6] = random(2)\n"
                                 "%m = Gemm(%f, %u) {transB=1}\n%h = Shape(%x)\nconst %a : i64[1] = 0\n"
                                 "const %e : i64[1] = 2\n%p = Slice(%h, %a, %e)\nconst %l : i64[1] = 8\n"
                                 "%to = Concat(%p, %l) {axis=0}\n"
                                 "%y = Reshape(%m, %to)\n", 8, 0},
      {"a size that is copied", "%m = MatMul(%x, %w)\nconst %n : i64[3] = 0 -1 0\n%y = Reshape(%m, %n)\n", 8, 0},
      {"heads", "%m = MatMul(%x, %w)\nconst %n : i64[4] = 0 -1 2 4\n%y = Reshape(%m, %n)\n", 4, 2},
      {"heads that are moved", "%m = MatMul(%x, %w)\nconst %n : i64[4] = 0 -1 2 4\n%h = Reshape(%m, %n)\n"
                               "%y = Transpose(%h) {perm=[0,2,3,1]}\n", 0, 4},
      {"parts side by side", "%m = MatMul(%x, %w)\n%y = Concat(%m, %x, %m) {axis=-1}\n", 22, 0},
      {"parts behind each other", "%m = MatMul(%x, %w)\n%y = Concat(%m, %m) {axis=1}\n", 8, 0},
      {"another axis", "%m = MatMul(%x, %w)\nconst %a : i64[1] = 0\n%u = Unsqueeze(%m, %a)\nconst %z : i64[] = 0\n"
                       "%g = Gather(%u, %z) {axis=0}\n%t = Unsqueeze(%g, %a)\n%s = Squeeze(%t, %a)\n"
                       "const %o : i64[1] = 1\n%y = Slice(%s, %a, %o, %o)\n", 8, 0},
      {"a new axis", "%m = MatMul(%x, %w)\nconst %a : i64[1] = -1\n%y = Unsqueeze(%m, %a)\n", 1, 8},
      {"parts of all rows", "%m = MatMul(%x, %w)\n%y, %z = Split(%m) {axis=1,num_outputs=2}\n", 8, 0},
      {"a table", "const %e : f32[9,8] = random(2)\ninput %ids : i64[batch=?,rows=?]\n%y = Gather(%e, %ids)\n", 8, 0},
      {"parts of no known width", "%m = MatMul(%x, %w)\n%y, %z = Split(%m) {axis=2,num_outputs=2}\n", 0, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Fix fix, *f = &fix;
    fix_init(f);
    PareGraph *g = fix_parse(f, fmt(f, "opset 18\ninput %%x : f32[batch=?,rows=?,6]\nconst %%w : f32[6,8] = random(1)\n"
                                    "%soutput %%y\n", cases[i].text));
    check_true(f, cases[i].what, g);
    PareFacts facts = facts_of(f, g);
    PareFact is = pare_facts_of(&facts, pare_graph_find(g, "y"));
    cr_expect(is.tail[0] == cases[i].last && is.tail[1] == cases[i].before,
              "%s: [.., %lld, %lld], not [.., %lld, %lld]", cases[i].what, (long long)is.tail[1],
              (long long)is.tail[0], (long long)cases[i].before, (long long)cases[i].last);
    fix_free(f);
  }
}

Test(facts, are_true_of_every_model) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  for (size_t i = 0, n = fixtures(f, 'A', &rows); i < n; i++) {
    PareModel *m;
    MUST(f, pare_model_load(&f->c, rows[i].path, &m));
    cr_expect(check_true(f, rows[i].name, m->graph) > 0, "%s: nothing is known", rows[i].name);
    pare_model_free(m);
  }
  fix_free(f);
}
