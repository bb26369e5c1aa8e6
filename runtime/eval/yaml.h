/* yaml.h -- the part of YAML that DataComp's tasklist.yml is written in, read into a JSON tree.
 *
 * Understood: mappings and lists by indentation (a list may stand at the indentation of its key, as PyYAML writes it),
 * flow lists [a, b] and flow mappings {a: 1} on one line, plain, 'single' and "double" quoted scalars, comments, one
 * document with or without `---`. Plain scalars that are numbers, true, false, null or ~ mean that; others are text.
 * Refused with the line: tabs as indentation, anchors, aliases, tags, block scalars, scalars over several lines, a key
 * that stands twice in one mapping. */
#ifndef TIC_EVAL_YAML_H
#define TIC_EVAL_YAML_H
#include "data/json.h"

enum { TIC_YAML_DEPTH = 16 };

/* `path` names the text in messages ("tasklist.yml:3: ..."). TIC_USER when it is not of this form. An empty text is null.
 * *root: tic_json_free. */
TicStatus tic_yaml_parse(const char *path, const char *text, size_t size, TicJson **root);
#endif
