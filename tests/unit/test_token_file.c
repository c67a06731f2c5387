/* test_token_file.c - edits of a JSON text by strings written out by hand, and which tokens a vocabulary takes to make
 * others, by lists worked out on paper. */
#include <criterion/criterion.h>
#include <string.h>

#include "runtime/json_edit.h"
#include "runtime/token_file.h"
#include "support.h"

/* The text less the items of its root that `stays` has '0' for; numbers among the others become 7. */
static const char *sifted(Fix *f, const char *text, const char *stays) {
  json_error_t why;
  json_t *value = json_loads(text, JSON_REJECT_DUPLICATES, &why);
  cr_assert_not_null(value, "%s: %s", text, why.text);
  PareJson root = pare_json_root(value, text, strlen(text));
  PareJsonEdit e;
  cr_assert(pare_json_edit(f->arena, text, strlen(text), &e));
  PareJsonSift s = {.e = &e};
  PareJsonItem i;
  for (PareJsonWalk w = pare_json_walk(&root); pare_json_next(&w, &i); stays++) {
    pare_json_sift(&s, &i, *stays == '1');
    if (*stays == '1' && json_is_integer(i.v.value)) pare_json_edit_number(&e, &i.v, 7);
  }
  cr_assert_eq(*stays, 0, "%s has other items", text);
  pare_json_sifted(&s);
  pare_json_edit_copy(&e, text + strlen(text));
  json_decref(value);
  return pare_arena_strndup(f->arena, e.out, e.n);
}

Test(json_edit, what_stays_is_as_it_was_written) {
  static const struct {
    const char *text, *stays, *want;
  } cases[] = {
      {"[]", "", "[]"},
      {" [ ] \n", "", " [ ] \n"},
      {"[1]", "0", "[]"},
      {"[ 1 ]", "0", "[  ]"},
      {"[1.50e+3,\"\\u00e9\\/\",null]", "111", "[1.50e+3,\"\\u00e9\\/\",null]"},
      {"[\n 11,\n 12,\n 13\n]\n", "111", "[\n 7,\n 7,\n 7\n]\n"},
      {"[\n 11,\n 12,\n 13\n]\n", "011", "[\n 7,\n 7\n]\n"},
      {"[\n 11,\n 12,\n 13\n]\n", "101", "[\n 7,\n 7\n]\n"},
      {"[\n 11,\n 12,\n 13\n]\n", "110", "[\n 7,\n 7\n]\n"},
      {"[\n 11,\n 12,\n 13\n]\n", "100", "[\n 7\n]\n"},
      {"[\n 11,\n 12,\n 13\n]\n", "010", "[\n 7\n]\n"},
      {"[\n 11,\n 12,\n 13\n]\n", "001", "[\n 7\n]\n"},
      {"[\n 11,\n 12,\n 13\n]\n", "000", "[\n \n]\n"},
      {"[11 , 12 ,13]", "101", "[7 ,7]"},
      {"{\"a\" : 10 , \"\\u0062\\\"]\":\t20,\"c}\":{\"d\":[1,{}]}}", "111", "{\"a\" : 7 , \"\\u0062\\\"]\":\t7,\"c}\":{\"d\":[1,{}]}}"},
      {"{\"a\" : 10 , \"\\u0062\\\"]\":\t20,\"c}\":{\"d\":[1,{}]}}", "001", "{\"c}\":{\"d\":[1,{}]}}"},
      {"{\"a\" : 10 , \"\\u0062\\\"]\":\t20,\"c}\":{\"d\":[1,{}]}}", "010", "{\"\\u0062\\\"]\":\t7}"},
      {"[[[]],\"[\",\"\\\\\",{\"]\":\"\\\"}\"}, -0 ]", "10101", "[[[]],\"\\\\\", 7 ]"},
  };
  Fix f;
  fix_init(&f);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    cr_expect_str_eq(sifted(&f, cases[i].text, cases[i].stays), cases[i].want, "%s by %s", cases[i].text, cases[i].stays);
  fix_free(&f);
}

Test(json_edit, items_are_walked_beside_what_jansson_made_of_them) {
  static const char text[] = "{\"z\": [1, \"]\"], \"a\\\"\": {\"k\": 2}, \"\\u00e9\": \"x\", \"m\": -3.5e2}";
  static const char *const keys[] = {"z", "a\"", "\xc3\xa9", "m"};
  static const char *const values[] = {"[1, \"]\"]", "{\"k\": 2}", "\"x\"", "-3.5e2"};
  json_t *value = json_loads(text, 0, NULL);
  PareJson root = pare_json_root(value, text, strlen(text)), k;
  PareJsonItem i;
  PareJsonWalk w = pare_json_walk(&root);
  for (size_t n = 0; n < 4; n++) {
    cr_assert(pare_json_next(&w, &i));
    cr_expect_str_eq(i.key, keys[n]);
    cr_expect_eq((size_t)(i.v.end - i.v.at), strlen(values[n]));
    cr_expect_eq(memcmp(i.v.at, values[n], strlen(values[n])), 0, "%s", values[n]);
    cr_expect_eq(i.v.value, json_object_get(value, keys[n]));
  }
  cr_expect_not(pare_json_next(&w, &i));
  cr_assert(pare_json_member(&root, "a\"", &k));
  cr_expect(pare_json_member(&k, "k", &k) && json_integer_value(k.value) == 2);
  cr_expect_not(pare_json_member(&root, "nothing", &k));
  cr_expect_not(pare_json_member(&k, "k", &k), "a number has no members");
  json_decref(value);
}

/* --- what has to stay --- */

/* A vocab.json of these tokens, numbered in their order and parted by blanks, with these merges. */
static const char *files_of(Fix *f, const char *tokens, const char *merges) {
  const char *dir = dir_make(f), *text = "{";
  int n = 0;
  for (const char *t = tokens; *t; t += strcspn(t, " "), t += *t == ' ')
    text = fmt(f, "%s%s\"%.*s\": %d", text, n ? ", " : "", (int)strcspn(t, " "), t, n), n++;
  text = fmt(f, "%s}", text);
  const char *path = fmt(f, "%s/vocab.json", dir), *beside = fmt(f, "%s/merges.txt", dir);
  write_file(path, text, strlen(text));
  write_file(beside, merges, strlen(merges));
  return path;
}

/* The tokens that stay of those, where the ones in `keep` are asked for, in the file's words. */
static const char *complete(Fix *f, const char *tokens, const char *merges, const char *keep, PareTokensAdded *added) {
  PareTokenFile t;
  PareTokenTexts out;
  enum { ROWS = 40 };
  bool stays[ROWS] = {0};
  int64_t new_id[ROWS], n = 0;
  MUST(f, pare_token_file_open(&f->c, f->arena, files_of(f, tokens, merges), ROWS, &t));
  for (const char *k = keep; *k; k += strcspn(k, " "), k += *k == ' ') {
    int64_t id = pare_map_get(&t.ids, fmt(f, "%.*s", (int)strcspn(k, " "), k));
    cr_assert_geq(id, 0, "%s", k);
    stays[id] = true;
  }
  MUST(f, pare_token_file_complete(&f->c, &t, stays, added));
  for (int i = 0; i < ROWS; i++) new_id[i] = stays[i] ? n++ : -1;
  MUST(f, pare_token_file_cut(&f->c, f->arena, &t, stays, new_id, &out));
  cr_assert_eq(out.n, 2);
  const char *text = fmt(f, "%.*s\n%.*s", (int)out.at[0].n, out.at[0].text, (int)out.at[1].n, out.at[1].text);
  pare_token_file_close(&t);
  return text;
}

Test(token_file, merges_and_their_parts_stay_with_what_they_make) {
  static const struct {
    const char *tokens, *merges, *keep, *want;
    int64_t parts;
  } cases[] = {
      /* of three letters above the bytes' alphabet: \xe4\xb8\x80 and so on, which nothing else keeps */
      {"\xe4\xb8\x80 \xe4\xb8\x81 \xe4\xb8\x82 \xe4\xb8\x80\xe4\xb8\x81 \xe4\xb8\x80\xe4\xb8\x81\xe4\xb8\x82",
       "#version: 0.2\n\xe4\xb8\x80 \xe4\xb8\x81\n\xe4\xb8\x80\xe4\xb8\x81 \xe4\xb8\x82\n", "\xe4\xb8\x80\xe4\xb8\x81",
       "{\"\xe4\xb8\x80\": 0, \"\xe4\xb8\x81\": 1, \"\xe4\xb8\x80\xe4\xb8\x81\": 2}\n#version: 0.2\n\xe4\xb8\x80 \xe4\xb8\x81\n", 2},
      /* the earlier merge goes first: of abc, bc stays and ab goes */
      {"a b c ab bc abc", "b c\r\na b\r\nab c\r\na bc\r\n", "abc",
       "{\"a\": 0, \"b\": 1, \"c\": 2, \"bc\": 3, \"abc\": 4}\nb c\r\na bc\r\n", 1},
      /* equal pairs from the left: aaaaa is aa, aa and a; the last merge is the later of the two that make it */
      {"a aa aaa aaaa aaaaa", "a a\naa aa\naaaa a\naa a\naaa aa\n", "aaaaa",
       "{\"a\": 0, \"aa\": 1, \"aaaa\": 2, \"aaaaa\": 3}\na a\naa aa\naaaa a", 2},
      /* a token that no merges make takes nothing along */
      {"a b c ab ca", "a b\n", "ca", "{\"a\": 0, \"b\": 1, \"c\": 2, \"ca\": 3}\n", 0},
      /* a word's end belongs to its last letter */
      {"a b b</w> ab ab</w>", "a b</w>\na b\n", "ab</w>",
       "{\"a\": 0, \"b\": 1, \"b</w>\": 2, \"ab</w>\": 3}\na b</w>\n", 0},
  };
  Fix f;
  fix_init(&f);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    PareTokensAdded added;
    const char *got = complete(&f, cases[i].tokens, cases[i].merges, cases[i].keep, &added);
    const char *want = cases[i].want;
    cr_expect(!strncmp(got, want, strlen(want)) && strspn(got + strlen(want), "\n") == strlen(got + strlen(want)),
              "case %zu: %s\nexpected %s", i, got, want);
    cr_expect_eq(added.n[PARE_NEED_PART], cases[i].parts, "case %zu: %lld parts", i, (long long)added.n[PARE_NEED_PART]);
  }
  fix_free(&f);
}

/* The first failure on the way from a file to its shorter one, where the k-th allocation of the arena or of scratch
 * fails; all arenas are of this call. */
static PareStatus with_failing(const char *path, bool scratch, size_t k) {
  enum { ROWS = 8 };
  bool keep[ROWS] = {[5] = true};
  const int64_t new_id[ROWS] = {0, 1, 2, 3, 3, 4, 5, 6};
  PareCtx c;
  PareArena *a = pare_arena_new(1 << 12);
  PareTokenFile t;
  PareTokensAdded added;
  PareTokenTexts out;
  cr_assert(a && pare_ctx_init(&c, NULL, 0));
  pare_arena_fail_after(scratch ? c.scratch : a, k);
  PareStatus s = pare_token_file_open(&c, a, path, ROWS, &t);
  if (s == PARE_OK) s = pare_token_file_complete(&c, &t, keep, &added);
  if (s == PARE_OK) s = pare_token_file_cut(&c, a, &t, keep, new_id, &out);
  pare_token_file_close(&t);
  pare_arena_free(a);
  pare_ctx_free(&c);
  return s;
}

Test(token_file, every_allocation_that_fails_is_told) {
  Fix f;
  fix_init(&f);
  const char *path = files_of(&f, "a b c ab bc abc", "b c\na b\nab c\na bc\n");
  for (int scratch = 0; scratch < 2; scratch++) {
    size_t k = 1;
    for (PareStatus s; (s = with_failing(path, scratch, k)) != PARE_OK; k++) cr_assert_eq(s, PARE_NOMEM, "at %zu: %d", k, s);
    cr_expect_gt(k, 5, "only %zu allocations were made", k - 1);
  }
  fix_free(&f);
}

Test(token_file, merges_are_looked_for_under_the_name_of_their_vocabulary_first) {
  Fix f;
  fix_init(&f);
  const char *dir = dir_make(&f), *own = fmt(&f, "%s/c.onnx.merges.txt", dir);
  cr_expect_str_eq(pare_merges_beside(f.arena, fmt(&f, "%s/c.onnx.vocab.json", dir)), fmt(&f, "%s/merges.txt", dir));
  write_file(own, "", 0);
  cr_expect_str_eq(pare_merges_beside(f.arena, fmt(&f, "%s/c.onnx.vocab.json", dir)), own);
  cr_expect_str_eq(pare_merges_beside(f.arena, fmt(&f, "%s/other.json", dir)), fmt(&f, "%s/merges.txt", dir));
  cr_expect_str_eq(pare_merges_beside(f.arena, "vocab.json"), "merges.txt");
  fix_free(&f);
}
